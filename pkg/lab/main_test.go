package lab

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/meshd-io/meshd/pkg/lab/network"
	"github.com/meshd-io/meshd/pkg/lab/sandbox"
)

// The test binary is executed again as PID 1 of a lab, as a container's set-up and as the daemon.
func TestMain(m *testing.M) {
	sandbox.RunChild()
	if len(os.Args) == 3 && os.Args[1] == "test-daemon" {
		os.Exit(testDaemon(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// testRanges are beside those of a lab that someone else may have on this machine.
func testRanges() network.Config {
	return network.Config{
		Pods:     network.Range{V4: netip.MustParsePrefix("10.247.0.0/16"), V6: netip.MustParsePrefix("fd00:10:247::/64")},
		Services: network.Range{V4: netip.MustParsePrefix("10.99.0.0/16"), V6: netip.MustParsePrefix("fd00:10:99::/112")},
	}
}

func testDaemon(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := Run(ctx, Options{Dir: dir, Network: testRanges(), Path: os.Getenv("PATH")}, log); err != nil {
		return tell(dir, err)
	}
	if err := goleak.Find(); err != nil {
		return tell(dir, err)
	}
	return 0
}

// tell leaves word for the test: the daemon's exit code is seen by no one.
func tell(dir string, err error) int {
	fmt.Fprintln(os.Stderr, err)
	if err := os.WriteFile(dir+".error", []byte(err.Error()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}
