package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshd-io/meshd/internal/golden"
)

// docs/reference/commands.md is what the commands say of themselves. `make gen`
// runs this test with -update.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nEvery command: exit code 0 only if all is well, `-o json` for programs, one clear line on stderr otherwise.\n")
	describe(t, &b, newRootCommand())
	golden.Check(t, "../../docs/reference/commands.md", b.Bytes())
}

// describe writes a command and those below it, in the order of their names.
func describe(t *testing.T, b *bytes.Buffer, cmd *cobra.Command) {
	t.Helper()
	if cmd.Hidden {
		return
	}
	if cmd.HasParent() {
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n\n%s\n", cmd.CommandPath(), cmd.UseLine(), text)
		describeFlags(t, b, cmd)
	}
	for _, child := range cmd.Commands() {
		describe(t, b, child)
	}
}

func describeFlags(t *testing.T, b *bytes.Buffer, cmd *cobra.Command) {
	t.Helper()
	var rows []string
	add := func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if f.Usage == "" {
			t.Errorf("%s --%s says nothing", cmd.CommandPath(), f.Name)
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		fallback := f.DefValue
		switch fallback {
		case defaultLabDir():
			fallback = "/run/meshd-lab" // root's
		case "[]":
			fallback = ""
		}
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |\n", name, fallback, strings.ReplaceAll(f.Usage, "|", `\|`)))
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	if len(rows) > 0 {
		b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n" + strings.Join(rows, ""))
	}
}
