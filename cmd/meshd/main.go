// Command meshd is the control plane, the lab and the operator's tools.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// exitCode is an error that has said all it has to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	sandbox.RunChild() // the lab executes this binary again as the init of its namespaces
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "meshd:", err)
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "meshd",
		Short:         "A service mesh: certificates, stock Envoy sidecars, and their configuration",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServeCommand(), newCheckCommand(), newProxiesCommand(), newTranslateCommand(), newLabCommand(), newCRDsCommand())
	return root
}
