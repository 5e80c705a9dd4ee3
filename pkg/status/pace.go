package status

import "time"

// These bound what looking costs: it is done at most so often, for a hundredth of the time where
// that leaves no more than a second between two looks, and for a tenth at most.
const (
	shortestLook = 100 * time.Millisecond
	longestLook  = time.Second
	lookShare    = 100
	greatShare   = 10
)

// Pace (the zero value is ready to use) says how often to look at how far
// objects are. A look that finds nothing new doubles the pause before the next
// one: endpoints that come and go change what statuses are made from all the
// time, and no status.
type Pace struct {
	pause time.Duration
	last  time.Time
}

// Next is when to look again at the earliest, after a look that began at a time and has just ended.
func (p *Pace) Next(began time.Time, news bool) time.Time {
	quiet := began.Sub(p.last) > 2*longestLook
	p.last, p.pause = began, min(2*p.pause, longestLook)
	if news || quiet {
		p.pause = shortestLook
	}
	took := time.Since(began)
	return began.Add(max(p.pause, greatShare*took, min(lookShare*took, longestLook)))
}
