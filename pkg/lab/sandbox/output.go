package sandbox

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
)

// output carries a container's stdout and stderr to its writers through pipes
// that belong to the container's user, so that it may open /dev/stdout again,
// as many servers do.
type output struct {
	stdout, stderr *os.File // the container's ends; nil is /dev/null
	copies         sync.WaitGroup
}

func openOutput(spec Spec) (*output, error) {
	o := &output{}
	var err error
	if o.stdout, err = o.pipe(spec.Stdout, spec.User); err != nil {
		return nil, err
	}
	if same(spec.Stdout, spec.Stderr) {
		o.stderr = o.stdout
		return o, nil
	}
	if o.stderr, err = o.pipe(spec.Stderr, spec.User); err != nil {
		o.closeOurs()
		o.wait()
		return nil, err
	}
	return o, nil
}

func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a).Comparable() && a == b
}

// pipe makes a pipe to the writer, of the user.
func (o *output) pipe(w io.Writer, u User) (*os.File, error) {
	if w == nil {
		return nil, nil
	}
	r, child, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if err := child.Chown(int(u.UID), int(u.GID)); err != nil {
		r.Close()
		child.Close()
		return nil, fmt.Errorf("give the output to user %d: %w", u.UID, err)
	}
	o.copies.Go(func() {
		defer r.Close()
		_, _ = io.Copy(w, r) // a writer that fails loses the rest: SIGPIPE for the container
	})
	return child, nil
}

// closeOurs closes the daemon's copies of the container's ends.
func (o *output) closeOurs() {
	for _, f := range []*os.File{o.stdout, o.stderr} {
		if f != nil {
			_ = f.Close() // a second close of the same file only says so
		}
	}
}

// wait waits until everything has been copied.
func (o *output) wait() { o.copies.Wait() }
