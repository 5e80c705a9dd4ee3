package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshd-io/meshd/pkg/lab"
	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/report"
	"github.com/meshd-io/meshd/pkg/telemetry"
)

const (
	upWait     = 60 * time.Second
	applyWait  = 30 * time.Second
	deleteWait = 45 * time.Second
)

// labFlags are common to the lab's commands.
type labFlags struct {
	dir                    string
	files                  []string
	podCIDRs, serviceCIDRs []string
	noMesh                 bool
	programs               []string
	logLevel               string
}

func newLabCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{Use: "lab", Short: "A mesh on this machine: network namespaces as pods, real Envoys", Args: cobra.NoArgs}
	// Without one of its own cobra takes an unknown command for a wish for help, and succeeds.
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.PersistentFlags().StringVar(&f.dir, "state-dir", defaultLabDir(), "the lab's folder")
	cmd.AddCommand(newLabUp(&f), newLabApply(&f), newLabDelete(&f), newLabDown(&f), newLabStatus(&f),
		newLabExec(&f), newLabLogs(&f), newLabDaemon(&f))
	return cmd
}

// defaultLabDir is the one lab of this machine, or without root of this user.
func defaultLabDir() string {
	if os.Geteuid() == 0 {
		return "/run/meshd-lab"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "meshd-lab")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("meshd-lab-%d", os.Geteuid()))
}

func newLabUp(f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "up -f PATH", Short: "Start the lab if it does not run, apply everything, and wait until it is in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := lab.ReadDocuments(f.files)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), upWait)
			defer cancel()
			if err := startLab(ctx, f); err != nil {
				return err
			}
			until, _ := ctx.Deadline()
			out, err := lab.NewClient(f.dir).Apply(cmd.Context(), docs, time.Until(until))
			if err != nil {
				return err
			}
			return printOutcome(cmd.ErrOrStderr(), out)
		},
	}
	filesFlag(cmd, f)
	networkFlags(cmd, f)
	return cmd
}

func filesFlag(cmd *cobra.Command, f *labFlags) {
	cmd.Flags().StringSliceVarP(&f.files, "filename", "f", nil, "file or folder of Kubernetes YAML; may be given again")
	if cmd.Name() != "up" {
		cobra.CheckErr(cmd.MarkFlagRequired("filename"))
	}
}

func networkFlags(cmd *cobra.Command, f *labFlags) {
	cmd.Flags().StringSliceVar(&f.podCIDRs, "pod-cidrs", nil, "addresses of pods, one IPv4 and one IPv6 prefix")
	cmd.Flags().StringSliceVar(&f.serviceCIDRs, "service-cidrs", nil, "addresses of Services, one IPv4 and one IPv6 prefix")
	cmd.Flags().BoolVar(&f.noMesh, "no-mesh", false, "without meshd: ordinary pods and Services")
}

func (f *labFlags) network() (network.Config, error) {
	c := network.DefaultConfig()
	var err error
	if c.Pods, err = lab.ParseRange(f.podCIDRs, c.Pods); err != nil {
		return c, err
	}
	if c.Services, err = lab.ParseRange(f.serviceCIDRs, c.Services); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func startLab(ctx context.Context, f *labFlags) error {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return err
	}
	f.dir = dir
	ranges, err := f.network()
	if err != nil {
		return err
	}
	programs, err := labPrograms()
	if err != nil {
		return err
	}
	args := []string{"lab", "daemon", "--state-dir", dir}
	for _, p := range programs {
		args = append(args, "--programs", p)
	}
	for _, c := range f.podCIDRs {
		args = append(args, "--pod-cidrs", c)
	}
	for _, c := range f.serviceCIDRs {
		args = append(args, "--service-cidrs", c)
	}
	if f.noMesh {
		args = append(args, "--no-mesh")
	}
	return lab.EnsureStarted(ctx, lab.StartOptions{Dir: dir, Args: args, Env: os.Environ(), Network: ranges})
}

// labPrograms are the folders of the mesh's own programs: that of this binary,
// and where Envoy is: $MESHD_ENVOY, or else the newest of those that `make` fetched.
func labPrograms() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dirs := []string{filepath.Dir(self)}
	if envoy := os.Getenv("MESHD_ENVOY"); envoy != "" {
		return append(dirs, filepath.Dir(envoy)), nil
	}
	if home, err := os.UserHomeDir(); err == nil {
		cached, err := filepath.Glob(filepath.Join(home, ".cache", "meshd", "envoy-*"))
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, cached[max(0, len(cached)-1):]...)
	}
	return dirs, nil
}

// newLabDaemon is what `up` starts in namespaces of its own.
func newLabDaemon(f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "daemon", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ranges, err := f.network()
			if err != nil {
				return err
			}
			log, err := telemetry.NewLogger(os.Stderr, f.logLevel)
			if err != nil {
				return err
			}
			o := lab.Options{Dir: f.dir, Network: ranges, Path: os.Getenv("PATH"), Programs: f.programs, Bootstrap: renderBootstrap}
			if !f.noMesh {
				if o.Meshd, err = os.Executable(); err != nil {
					return err
				}
			}
			// A terminal's hang-up is meant for the command that started the lab.
			signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
			return lab.Run(cmd.Context(), o, log)
		},
	}
	networkFlags(cmd, f)
	cmd.Flags().StringArrayVar(&f.programs, "programs", nil, "folder of programs for the lab's containers")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func newLabApply(f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply -f PATH", Short: "Apply objects, and wait until they are in force", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := lab.ReadDocuments(f.files)
			if err != nil {
				return err
			}
			out, err := lab.NewClient(f.dir).Apply(cmd.Context(), docs, applyWait)
			if err != nil {
				return err
			}
			return printOutcome(cmd.ErrOrStderr(), out)
		},
	}
	filesFlag(cmd, f)
	return cmd
}

func newLabDelete(f *labFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete -f PATH", Short: "Delete the objects of files, and wait until their pods have ended", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := lab.ReadDocuments(f.files)
			if err != nil {
				return err
			}
			out, err := lab.NewClient(f.dir).Delete(cmd.Context(), docs, deleteWait)
			if err != nil {
				return err
			}
			return printOutcome(cmd.ErrOrStderr(), out)
		},
	}
	filesFlag(cmd, f)
	return cmd
}

// printOutcome writes a line for each thing that is not as asked for, and fails if there is one.
func printOutcome(w io.Writer, out lab.Outcome) error {
	for _, n := range out.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	for _, r := range out.Refused {
		fmt.Fprintln(w, "refused:", findingLine(r))
	}
	for _, p := range out.Pending {
		fmt.Fprintln(w, "not ready:", p)
	}
	if len(out.Refused)+len(out.Pending) > 0 {
		return exitCode(1)
	}
	return nil
}

// findingLine is FILE:LINE: OBJECT: FIELD: MESSAGE (REASON), without what is unknown.
func findingLine(f report.Finding) string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	if f.Object.Kind != "" {
		b.WriteString(f.Object.String() + ": ")
	}
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	fmt.Fprintf(&b, "%s (%s)", f.Message, f.Reason)
	return b.String()
}

func newLabDown(f *labFlags) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab and remove all that it made", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.Down(cmd.Context(), f.dir) },
	}
}

// target reads POD of exec and logs.
type target struct{ namespace, container string }

func (t *target) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "default", "the pod's namespace")
	cmd.Flags().StringVarP(&t.container, "container", "c", "", "container (default: the first that is no sidecar)")
}

func (t *target) of(pod string) lab.Target {
	return lab.Target{Namespace: t.namespace, Pod: pod, Container: t.container}
}

func newLabExec(f *labFlags) *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "exec POD [-c NAME] -- CMD...", Short: "Run a command in a pod: deploy/NAME or NAME",
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
				return errors.New("exec wants one POD, then -- and a command")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := lab.NewClient(f.dir).Exec(cmd.Context(), t.of(args[0]), args[1:],
				lab.Streams{In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr()})
			if err == nil && code != 0 {
				return exitCode(code)
			}
			return err
		},
	}
	t.flags(cmd)
	return cmd
}

func newLabLogs(f *labFlags) *cobra.Command {
	var t target
	var follow bool
	cmd := &cobra.Command{
		Use: "logs POD [-c NAME]", Short: "What a container has written: deploy/NAME or NAME", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.NewClient(f.dir).Logs(cmd.Context(), t.of(args[0]), follow, cmd.OutOrStdout())
		},
	}
	t.flags(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes")
	return cmd
}
