package integration

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"

	"github.com/meshd-io/meshd/pkg/lab"
)

// demandFeatures are about what is remembered of a workload.
func demandFeatures() []feature {
	return []feature{
		{name: "the next replica starts with what the last one used", manifest: user + services(0, 2), test: testStartsWarm},
		{name: "what was given is not taken away", manifest: user + services(0, 1), test: testGivenStays},
	}
}

// testGivenStays: a connection to a destination that the proxy has never asked
// for, because the scope was All, goes on when it is no longer.
func testGivenStays(w *world) {
	w.meshConfig("scope: All")
	in, line := io.Pipe()
	answered, out, done := make(chan struct{}), &bytes.Buffer{}, make(chan error, 1)
	said := &watched{until: "answered 200\n", then: sync.OnceFunc(func() { close(answered) })}
	go func() {
		_, err := w.Exec(w.Context(), w.in(own), []string{"app", "get", "-tell", "-again", "http://s0/x"}, lab.Streams{In: in, Out: out, Err: said})
		done <- err
	}()
	select {
	case <-answered:
	case err := <-done:
		w.Fatalf("no first answer: %v: %s", err, out)
	}
	w.meshConfig("scope: Learned")
	if _, err := io.WriteString(line, "\n"); err != nil {
		w.Fatal(err)
	}
	if err := <-done; err != nil {
		w.Fatal(err)
	}
	if n := strings.Count(said.String(), "connected"); n != 1 {
		w.Errorf("%d connections", n)
	}
	var a httpAnswer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	w.meshed(a, w.ns+"/"+ownID)
}

func testStartsWarm(w *world) {
	use := func() { w.meshed(w.get(own, "http://s0/x"), w.ns+"/"+ownID) }
	listeners := w.listenerUpdates()
	use()
	w.eventually("it is promoted", func() bool { return w.listenerUpdates() > listeners }, func() string { return "" })
	first := w.pod(w.ns, "own-").Name
	w.delete(user)
	w.apply(user)
	if second := w.pod(w.ns, "own-").Name; second == first {
		w.Fatalf("%s is not another pod", second)
	}
	before := w.sent()
	use()
	if got := difference(before, w.sent()); len(got) > 0 {
		w.Errorf("its first use of what the last replica used: sent %v", got)
	}
	w.meshed(w.get(own, "http://s1/x"), w.ns+"/"+ownID)
	if got := difference(before, w.sent()); len(got) == 0 {
		w.Error("the first use of what nobody has used: sent nothing")
	}
}

// watched does something when a text has been written to it.
type watched struct {
	bytes.Buffer
	until string
	then  func()
}

func (b *watched) Write(p []byte) (int, error) {
	n, err := b.Buffer.Write(p)
	if strings.Contains(b.String(), b.until) {
		b.then()
	}
	return n, err
}
