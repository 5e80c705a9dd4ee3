package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// child is bench itself in another process, which takes orders.
type child struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
	end func()
}

func startChild(ctx context.Context, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self, args...)} // this program
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	c.end = func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait() // ended by the signal
	}
	return c, c.cmd.Start()
}

func (c *child) do(o order) (answer, error) {
	var a answer
	if err := errors.Join(c.in.Encode(o), c.out.Decode(&a)); err != nil {
		return a, fmt.Errorf("%s: %w", o.Do, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", o.Do, a.Error)
	}
	return a, nil
}
