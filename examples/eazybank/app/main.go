// Command eazybank is the example's application: a small bank of services
// that know nothing of the mesh, and the client by which the demo asks them.
//
//	eazybank serve NAME --port 8080     answers /NAME, and a few paths that misbehave on request
//	eazybank get URL                    one request; prints "CODE BODY"
//	eazybank load URL --for 10s         requests at a steady pace; prints what came back, as JSON
//	eazybank wire --port 8090           prints the first bytes of every packet to and from a port
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "eazybank:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: eazybank serve | get | load | wire")
	}
	switch args[0] {
	case "serve":
		return serve(args[1:])
	case "get":
		return get(args[1:])
	case "load":
		return load(args[1:])
	case "wire":
		return wire(args[1:])
	}
	return fmt.Errorf("%q is no command: serve, get, load or wire", args[0])
}
