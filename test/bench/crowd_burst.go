package main

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// burst is what a crowd is told of one that has ended.
type burst struct {
	Changes []change `json:"changes"`
	// State is what proxies must have of each service in the end.
	State []string `json:"state"`
}

// change of a service's endpoints, and when its source told of it.
type change struct {
	Number  int   `json:"number"`
	Service int   `json:"service"`
	At      int64 `json:"at"`
}

// latency of a burst: from a change until a proxy had it, or a later one of the same service.
type latency struct {
	Samples int     `json:"samples"`
	P50     float64 `json:"p50"` // ms
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	// First is the p99 until the first proxy had it: the way to meshd and through it.
	First float64 `json:"first"`
}

// stamp is when a proxy has received a service's change.
type stamp struct {
	move
	at int64
}

// stamps are noted while what they measure goes on: they are never copied for
// more room, which would hold up every proxy, and leave as much to the collector.
type stamps struct{ parts [][]stamp }

// stampsPart is how many there is room for at a time.
const stampsPart = 4096

func (s *stamps) add(one stamp) {
	last := len(s.parts) - 1
	if last < 0 || len(s.parts[last]) == stampsPart {
		s.parts = append(s.parts, make([]stamp, 0, stampsPart))
		last++
	}
	s.parts[last] = append(s.parts[last], one)
}

// all are in the order in which they were added.
func (s *stamps) all() iter.Seq[stamp] {
	return func(yield func(stamp) bool) {
		for _, part := range s.parts {
			for _, one := range part {
				if !yield(one) {
					return
				}
			}
		}
	}
}

// settling is how long after the last change proxies may differ from what they should have.
const settling = time.Minute

func (c *crowd) beginBurst() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.burst = &stamps{}
}

// endBurst waits until every proxy has the state. That one has another in the end is an error.
func (c *crowd) endBurst(b *burst) (*latency, error) {
	verdicts := map[*held]error{}
	var wrong error
	err := c.wait(settling, func() bool {
		wrong = nil
		for number, h := range c.holds {
			verdict, known := verdicts[h]
			if !known {
				verdict = h.differs(b.State)
				verdicts[h] = verdict
			}
			if verdict != nil {
				wrong = fmt.Errorf("proxy %d: %w", number, verdict)
				return false
			}
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("the state after a burst is not exact: %w: %w", wrong, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	noted := c.burst
	c.burst = nil
	clear(c.arrivals)
	return latencies(b.Changes, noted.all()), nil
}

// differs says what a proxy has otherwise than it should.
func (p *held) differs(state []string) error {
	if !p.settled {
		return fmt.Errorf("something is missing: it has %s", p)
	}
	for name, a := range p.endpoints.all() {
		service := serviceOf(name)
		if service < 0 { // a cluster has others too
			continue
		}
		if service >= len(state) {
			return fmt.Errorf("endpoints of an unknown service: %s", name)
		}
		if a.addresses != state[service] {
			return fmt.Errorf("%s has %s, want %s", name, a.addresses, state[service])
		}
	}
	return nil
}

func latencies(changes []change, noted iter.Seq[stamp]) *latency {
	slices.SortFunc(changes, func(a, b change) int { return a.Number - b.Number })
	of := map[int][]change{} // by service
	for _, c := range changes {
		of[c.Service] = append(of[c.Service], c)
	}
	var list []time.Duration
	first := map[int]time.Duration{} // by change
	for s := range noted {
		mine := of[s.service]
		i, _ := slices.BinarySearchFunc(mine, s.from+1, func(c change, n int) int { return c.Number - n })
		for ; i < len(mine) && mine[i].Number <= s.to; i++ {
			took := time.Duration(s.at - mine[i].At)
			list = append(list, took)
			if known, ok := first[mine[i].Number]; !ok || took < known {
				first[mine[i].Number] = took
			}
		}
	}
	slices.Sort(list)
	return &latency{
		Samples: len(list), P50: quantile(0.5, list), P99: quantile(0.99, list), Max: quantile(1, list),
		First: quantile(0.99, slices.Sorted(maps.Values(first))),
	}
}
