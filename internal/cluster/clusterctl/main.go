// Command clusterctl is what hack/cluster runs: see its usage there.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/internal/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "cluster", Short: "A real one-node Kubernetes on this machine", SilenceUsage: true, SilenceErrors: true}
	var o cluster.Options
	root.PersistentFlags().StringVar(&o.Dir, "dir", filepath.Join(os.TempDir(), "meshd-cluster"), "state folder")

	up := &cobra.Command{Use: "up", Short: "Bring it up; prints its kubeconfig", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		began := time.Now()
		if err := cluster.Up(cmd.Context(), o); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "up after %s\n", time.Since(began).Round(100*time.Millisecond))
		fmt.Fprintln(cmd.OutOrStdout(), o.Kubeconfig())
		return nil
	}}
	up.Flags().StringVar(&o.Binaries, "binaries", "", "folder that hack/kube prints")
	up.Flags().StringSliceVar(&o.Images, "image", nil, "archive of images to import")

	simple := func(use, short string, args cobra.PositionalArgs, run func(*cobra.Command, []string) error) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: args, RunE: run}
	}
	root.AddCommand(up,
		simple("down", "End it and remove all that it has made", cobra.NoArgs, func(*cobra.Command, []string) error {
			return cluster.Down(o.Dir)
		}),
		simple("status", "Its processes, as JSON", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			parts, err := cluster.Status(cmd.Context(), o.Dir)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(parts)
		}),
		simple("kubeconfig", "Print where its kubeconfig is", cobra.NoArgs, func(cmd *cobra.Command, _ []string) error {
			if _, err := cluster.Status(cmd.Context(), o.Dir); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), o.Kubeconfig())
			return nil
		}),
		simple("load ARCHIVE...", "Import archives of images", cobra.MinimumNArgs(1), func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				path, err := filepath.Abs(a)
				if err != nil {
					return err
				}
				if err := cluster.Import(cmd.Context(), o.Dir, path); err != nil {
					return err
				}
			}
			return nil
		}),
		simple("stop PART", "Kill one of its processes (kube-apiserver, say)", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			return cluster.Stop(cmd.Context(), o.Dir, args[0])
		}),
		simple("start PART", "Start it again", cobra.ExactArgs(1), func(cmd *cobra.Command, args []string) error {
			return cluster.Start(cmd.Context(), o.Dir, args[0])
		}),
	)
	for _, inner := range []struct {
		name string
		run  func(*cobra.Command, []string) error
	}{
		{"init", func(*cobra.Command, []string) error { return cluster.Init(o.Dir) }},
		{"supervise", func(cmd *cobra.Command, _ []string) error { return cluster.Supervise(cmd.Context(), o.Dir) }},
	} {
		c := simple(inner.name, "", cobra.NoArgs, inner.run)
		c.Hidden = true
		root.AddCommand(c)
	}
	return root
}
