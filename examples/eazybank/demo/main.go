// Command demo brings up the example bank on this machine, proves row by row
// what the mesh does for it, and takes it down; or, with -kubectl, proves the
// same in a cluster. It uses nothing but the command line that a user has. It
// exits non-zero if a row does not hold.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	keep := flag.Bool("keep", false, "leave the lab up afterwards")
	only := flag.Int("row", 0, "prove this row only (0 = all)")
	bin := flag.String("bin", "bin", "folder of meshd, meshd-agent and eazybank")
	kubectl := flag.String("kubectl", "", "prove it in the cluster of this kubectl, where the bank has been applied, and not in a lab")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *kubectl != "" {
		err = prove(ctx, onCluster(*kubectl), *only)
	} else {
		err = inLab(ctx, *bin, *only, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1) // stop has been called
	}
}

// inLab brings a lab up, proves the rows in it, and takes it down.
func inLab(ctx context.Context, bin string, only int, keep bool) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	m := onLab(bin)
	fmt.Println("$ meshd lab up -f examples/eazybank")
	began := time.Now()
	out, err := run(ctx, m.command, "up", "-f", "examples/eazybank")
	if !keep {
		defer func() {
			// The demo's own context may be over; the lab must go all the same.
			if _, down := run(context.WithoutCancel(ctx), m.command, "down"); down != nil && err == nil {
				err = down
			}
		}()
	}
	if err != nil {
		return fmt.Errorf("lab up: %w\n%s", err, out)
	}
	fmt.Printf("up after %s\n\n", time.Since(began).Round(100*time.Millisecond))
	return prove(ctx, m, only)
}

// prove runs the rows in order and prints each as it is done.
func prove(ctx context.Context, m *mesh, only int) error {
	failed, done := 0, 0
	for i, row := range rows() {
		if only != 0 && only != i+1 {
			continue
		}
		fmt.Printf("%d. %s\n", i+1, row.title)
		for _, c := range row.checks {
			saw, err := c.see(ctx, m)
			mark := "ok  "
			if err != nil {
				mark, saw = "FAIL", err.Error()
				failed++
			}
			done++
			fmt.Printf("   %s %-62s %s\n", mark, c.what, saw)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	fmt.Printf("\n%d passed, %d failed\n", done-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d checks do not hold", failed, done)
	}
	return nil
}
