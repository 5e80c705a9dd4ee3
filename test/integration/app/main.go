// Command app is the tests' application: servers and clients of everything
// that a mesh carries. It knows nothing of the mesh.
//
//	app serve KIND:PORT...     http (and h2c), https, echo, count, banner, talker, grpc
//	app get [flags] URL        one HTTP request
//	app ask                    HTTP requests from stdin, as JSON, on kept connections
//	app tcp [flags] HOST:PORT  one TCP connection
//	app grpc HOST:PORT         a unary call, a stream of answers, a stream both ways
//	app ws URL                 a websocket whose messages come back
//
// Clients print one line of JSON, and exit with 0 if they could ask at all.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: app serve | get | ask | tcp | grpc | ws")
	}
	switch args[0] {
	case "serve":
		return serve(args[1:])
	case "get":
		return get(args[1:])
	case "ask":
		return askAll()
	case "tcp":
		return dialTCP(args[1:])
	case "grpc":
		return callGRPC(args[1:])
	case "ws":
		return callWebsocket(args[1:])
	}
	return fmt.Errorf("%q is no command: serve, get, ask, tcp, grpc or ws", args[0])
}

func printJSON(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
