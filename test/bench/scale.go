package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// scaleSize is what the part "scale" runs with.
type scaleSize struct {
	source, form                 string
	proxies, services, workloads ints
	runs                         int
	settle                       time.Duration
	steps                        []string
}

func (s *scaleSize) register(f *flag.FlagSet) {
	s.proxies, s.services, s.workloads = ints{1000}, ints{1000}, ints{1, 20}
	f.StringVar(&s.source, "source", "", "scale: files or cluster (an API server of its own, whose binaries are in the folder MESHD_KUBE); empty is both where that is set")
	f.StringVar(&s.form, "form", "", "scale: all (scope: All) or used (each proxy uses 20 services); empty is both")
	f.Var(&s.proxies, "proxies", "scale: simulated `proxies`; several, by commas, show how cost grows")
	f.Var(&s.services, "services", "scale: `services`, of two pods each; several, by commas, show how cost grows")
	f.Var(&s.workloads, "workloads", "scale: `workloads` that the proxies are replicas of; several, by commas. More than one only where -form is said, or each proxy uses 20 services")
	f.IntVar(&s.runs, "runs", 1, "scale: `times` that everything is measured; medians are shown")
	f.Func("steps", "scale: only these `steps` after the cold start, by commas: changes, idle, bursts, stalled, restart", func(list string) error {
		s.steps = strings.Split(list, ",")
		for _, name := range s.steps {
			if !slices.ContainsFunc(scaleSteps(), func(step scaleStep) bool { return step.name == name }) {
				return fmt.Errorf("no step %q", name)
			}
		}
		return nil
	})
	f.DurationVar(&s.settle, "settle", 0, "scale: wait so long for memory as it is when meshd has been idle (130s)")
}

const (
	scaleUsed    = 20               // services that each proxy uses where not all are sent
	scaleChanges = 60               // one at a time
	scaleBlock   = 15               // changes, then as many rounds of the floor
	scaleStalled = 200              // proxies that never read: many, since statuses move by megabytes
	scaleBeside  = scaleStalled + 2 // one more of them, and a new proxy
	scaleAfter   = 15               // changes beside them
	scaleIdle    = 10 * time.Second
)

// sources are those that are asked for, or can be had.
func (s *scaleSize) sources() ([]string, error) {
	kube := os.Getenv("MESHD_KUBE") != ""
	switch {
	case s.source == "files", s.source == "cluster" && kube:
		return []string{s.source}, nil
	case s.source == "cluster":
		return nil, errors.New("MESHD_KUBE names no folder with etcd and kube-apiserver")
	case s.source != "":
		return nil, fmt.Errorf("no source %q", s.source)
	case !kube:
		fmt.Fprintln(os.Stderr, "scale: NOT MEASURED from an API server: MESHD_KUBE is not set")
		return []string{"files"}, nil
	}
	return []string{"files", "cluster"}, nil
}

func (s *scaleSize) measure(ctx context.Context, bin string) ([]figure, error) {
	sources, err := s.sources()
	if err != nil {
		return nil, err
	}
	var out []figure
	var g growth
	for _, source := range sources {
		for _, services := range s.services {
			for _, proxies := range s.proxies {
				some, err := s.measureAt(ctx, bin, source, scalePoint{proxies, services}, &g)
				out = append(out, some...)
				if err != nil {
					return out, fmt.Errorf("%s, %d proxies, %d services: %w", source, proxies, services, err)
				}
			}
		}
	}
	return append(out, g.figures()...), nil
}

// scalePoint is how much there is.
type scalePoint struct{ proxies, services int }

// measureAt measures all that is asked for on one world.
func (s *scaleSize) measureAt(ctx context.Context, bin, source string, at scalePoint, g *growth) (out []figure, err error) {
	dir, err := os.MkdirTemp("", "meshd-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, workloads := range s.workloads {
		m := mesh{services: at.services, clients: at.proxies + scaleBeside, workloads: workloads}
		forms := slices.DeleteFunc([]string{"all", "used"}, func(f string) bool {
			return s.form != "" && s.form != f || s.form == "" && f == "all" && workloads > 1
		})
		some, err := s.measureOn(ctx, bin, filepath.Join(dir, fmt.Sprint(workloads)), source, m, forms, g)
		out = append(out, some...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *scaleSize) measureOn(ctx context.Context, bin, dir, source string, m mesh, forms []string, g *growth) (out []figure, err error) {
	began := time.Now()
	from, err := openSource(ctx, source, dir, m)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	w, err := newWorld(ctx, from, m)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "scale: %s has %d services and %d clients after %.0f s\n", source, m.services, m.clients, time.Since(began).Seconds())
	at := scalePoint{m.clients - scaleBeside, m.services}
	for _, form := range forms {
		series := fmt.Sprintf("each proxy uses %d", min(scaleUsed, m.services))
		if form == "all" {
			series = "each proxy has all (scope: All)"
		}
		if m.workloads > 1 {
			series += fmt.Sprintf(", %d workloads", m.workloads)
		}
		group := fmt.Sprintf("%s, %d proxies, %d services, %s", source, at.proxies, at.services, series)
		var runs [][]figure
		for i := range s.runs {
			fmt.Fprintf(os.Stderr, "scale: %s, run %d of %d\n", group, i+1, s.runs)
			r := &scaleRun{world: w, bin: bin, group: group, proxies: at.proxies, settle: s.settle, only: s.steps, all: form == "all"}
			if err := r.run(ctx); err != nil {
				return append(out, r.out...), fmt.Errorf("%s: %w", group, err)
			}
			runs = append(runs, r.out)
		}
		some := medians(runs)
		g.add(source+", "+series, at, some)
		out = append(out, some...)
	}
	return out, nil
}

func openSource(ctx context.Context, name, dir string, m mesh) (source, error) {
	if name == "cluster" {
		return newCluster(ctx, os.Getenv("MESHD_KUBE"), m)
	}
	return newFiles(dir, m)
}
