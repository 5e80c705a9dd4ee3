package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// source is what a meshd reads its mesh from: a folder of files, or an API server.
type source interface {
	// put creates or updates objects; in files they are one, of this name.
	put(ctx context.Context, file string, objects ...client.Object) error
	// serve starts a meshd in an empty folder and returns when it is ready.
	serve(ctx context.Context, bin, dir string) (*daemon, error)
	// token is a service-account token of a client's pod.
	token(ctx context.Context, client int) (string, error)
	// tidings tell of endpoints from when on a meshd can know of them.
	tidings() *tidings
	// quiet waits until meshd has written all statuses that it has to write.
	quiet(ctx context.Context) error
	close() error
}

// world is a mesh in a source.
type world struct {
	source
	mesh
	addresses [][]string // of each service's endpoints, now
}

// fillers is how many objects are written at a time.
const fillers = 16

func newWorld(ctx context.Context, s source, m mesh) (*world, error) {
	w := &world{source: s, mesh: m, addresses: make([][]string, m.services)}
	var pods []client.Object
	for i := range m.clients {
		pods = append(pods, m.clientPod(i))
	}
	err := each(ctx, m.services, func(i int) error {
		w.addresses[i] = both(i)
		return errors.Join(s.put(ctx, serviceName(i), m.parts(i)...), w.endpoints(ctx, i, w.addresses[i]))
	})
	return w, errors.Join(err, s.put(ctx, "clients", pods...))
}

// each calls work for 0 to n-1, some at a time, until one fails.
func each(ctx context.Context, n int, work func(int) error) error {
	var group sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, fillers)
	for f := range errs {
		group.Go(func() {
			for errs[f] == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[f] = work(i); errs[f] != nil {
					next.Store(int64(n))
				}
			}
		})
	}
	group.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// both are the addresses of a service's pods.
func both(service int) []string {
	return []string{endpointAddress(service, 0), endpointAddress(service, 1)}
}

func (w *world) endpoints(ctx context.Context, service int, addresses []string) error {
	w.addresses[service] = addresses
	return w.put(ctx, serviceName(service)+"-slice", slice(service, addresses))
}

// mark makes a change: an endpoint of the service whose address is the change's number.
func (w *world) mark(ctx context.Context, service, change int) error {
	return w.endpoints(ctx, service, []string{endpointAddress(service, 0), markerAddress(change)})
}

// restore takes all marks away but one of no change, on the first service.
func (w *world) restore(ctx context.Context) error {
	w.tidings().forget()
	for i, now := range w.addresses {
		if i > 0 && slices.Equal(now, both(i)) {
			continue
		}
		if err := w.endpoints(ctx, i, both(i)); err != nil {
			return err
		}
	}
	return w.mark(ctx, 0, 0)
}

// annotate changes the first service, its policy, its pods and its endpoints in a way that no proxy need know of.
// It returns how many objects that are.
func (w *world) annotate(ctx context.Context, n int) (int, error) {
	parts, endpoints := w.parts(0), client.Object(slice(0, w.addresses[0]))
	for _, o := range append(parts, endpoints) {
		o.SetAnnotations(map[string]string{"example.com/n": fmt.Sprint(n)})
	}
	return len(parts) + 1, errors.Join(w.put(ctx, serviceName(0), parts...), w.put(ctx, serviceName(0)+"-slice", endpoints))
}

// scope is whether every proxy has everything.
func (w *world) scope(ctx context.Context, all bool) error {
	return w.put(ctx, "meshconfig", meshConfig(all))
}

// state is what proxies must have of each service, as assignment.addresses.
func (w *world) state() []string {
	out := make([]string, len(w.addresses))
	for i, a := range w.addresses {
		out[i] = strings.Join(slices.Sorted(slices.Values(a)), " ")
	}
	return out
}

// tidings say when a source has told of changes.
type tidings struct {
	mu   sync.Mutex
	more *sync.Cond
	at   map[int]int64
	err  error
	// follower is told of each change; nil is none.
	follower func(change int) error
}

func newTidings() *tidings {
	t := &tidings{at: map[int]int64{}}
	t.more = sync.NewCond(&t.mu)
	return t
}

// note what a slice says of changes.
func (t *tidings) note(s *discoveryv1.EndpointSlice, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range s.Endpoints {
		for _, a := range e.Addresses {
			change := markerOf(a)
			if change <= 0 || t.at[change] != 0 {
				continue
			}
			t.at[change] = at
			if t.follower != nil {
				t.err = errors.Join(t.err, t.follower(change))
			}
		}
	}
	t.more.Broadcast()
}

func (t *tidings) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	t.more.Broadcast()
}

func (t *tidings) follow(f func(change int) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follower = f
}

func (t *tidings) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.at)
}

// of waits until the source has told of a change, and gives when.
func (t *tidings) of(change int) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.at[change] == 0 && t.err == nil {
		t.more.Wait()
	}
	if at := t.at[change]; at != 0 {
		return at, nil
	}
	return 0, fmt.Errorf("change %d: %w", change, t.err)
}
