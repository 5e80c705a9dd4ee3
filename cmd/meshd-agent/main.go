// Command meshd-agent is the small process beside each workload. `run` keeps the
// workload's certificate and serves it on a Unix socket; `capture` redirects the
// pod's traffic before anything else runs in it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

// command is a subcommand: its arguments come after its name.
type command struct {
	name, help string
	run        func(args []string) error
}

// commands are all of them; a new one is a line here and a file beside this one.
func commands() []command {
	return []command{
		{name: "run", help: "keep the workload's certificate and serve it", run: run},
		{name: "status", help: "say whose certificate is served and when it expires", run: status},
		{name: "capture", help: "redirect the traffic of this network namespace to the proxy, and exit", run: captureTraffic},
	}
}

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "meshd-agent:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(args[1:])
			}
		}
	}
	usage := "usage: meshd-agent COMMAND [flags]"
	for _, c := range commands() {
		usage += fmt.Sprintf("\n  %-8s %s", c.name, c.help)
	}
	return errors.New(usage)
}
