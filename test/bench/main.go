// Command bench measures meshd on this machine and prints one table, or JSON.
// Of figures it asserts nothing: they are for people to read, on a machine that
// they know. That proxies have another state than they should is an error. docs/performance.md says how each one is taken.
//
//	bench [-json] [-only functions|wire|scale|lab|sidecar|demo] [-bin bin], and what -help says of the part scale
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := runAll
	if len(os.Args) > 1 {
		switch os.Args[1] { // what bench starts as a process of its own
		case "probe":
			run = func(ctx context.Context) error { return probe(ctx, os.Args[2:]) }
		case "crowd":
			run = beCrowd
		case "floor":
			run = func(ctx context.Context) error { return beFloor(ctx, os.Args[2]) }
		case "burst-floor":
			run = func(ctx context.Context) error { return beBurstFloor(ctx, os.Args[2]) }
		}
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) // stop has been called
	}
}

// section is a group of figures that share what they are measured on.
type section struct {
	name    string
	measure func(ctx context.Context, bin string) ([]figure, error)
}

func runAll(ctx context.Context) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError) // libraries have put theirs into flag.CommandLine
	asJSON := flags.Bool("json", false, "print JSON")
	only := flags.String("only", "", "one section: functions, wire, scale, lab, sidecar or demo")
	bin := flags.String("bin", "bin", "folder of meshd, meshd-agent, eazybank, demo and bench")
	var size scaleSize
	size.register(flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	dir, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	var all []figure
	var failed error // one section's fault hides no other's figures
	sections := []section{
		{"functions", functions}, {"wire", wire}, {"scale", size.measure}, {"lab", labFigures}, {"sidecar", sidecarFigures}, {"demo", demoTime},
	}
	for _, s := range sections {
		if *only != "" && *only != s.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", s.name)
		figures, err := s.measure(ctx, dir)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
		all = append(all, figures...)
		if ctx.Err() != nil {
			return failed
		}
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return errors.Join(failed, enc.Encode(machine{CPUs: cpus(), Model: cpuModel(), Figures: all}))
	}
	return errors.Join(failed, printTable(os.Stdout, all))
}
