package server

import "github.com/meshd-io/meshd/pkg/xds/cache"

// lanes is a set of a session's lanes, a bit each.
type lanes uint32

func (of lanes) has(lane int) bool { return of&(1<<lane) != 0 }

// changedLanes are those whose sets differ between two snapshots.
func changedLanes(before, after *cache.Snapshot) (changed lanes) {
	for i, t := range laneTypes {
		if before == nil || id(before.Set(t)) != id(after.Set(t)) {
			changed |= 1 << i
		}
	}
	return changed
}

// flights are the lanes with a response that is not acknowledged.
func (s *session) flights() (in lanes) {
	for i, l := range s.lanes {
		if l != nil && l.flight != nil {
			in |= 1 << i
		}
	}
	return in
}

// concerned reports whether a snapshot with some changes can let something be sent now. Where
// changes come faster than acknowledgements most streams wait for one, and take the newest
// snapshot when it comes.
//
// While a step is pending it may have taken the snapshot before from the cache; one that begins
// from now on takes this one. Where none is, the session stands as the last step has left it: on
// an ADS stream nothing of a lane in flight is sent, and what follows it waits as well; an
// on-demand stream has but its own lane, as long as it waits for nothing on the other.
func (st *stream) concerned(changed lanes) bool {
	switch {
	case st.pending.Load() > 0:
		return true
	case st.onDemand:
		return changed.has(onDemandLane) || st.waiting.Load() || !st.proxy.settled.Load()
	}
	return changed&^(1<<onDemandLane)&^lanes(st.flights.Load()) != 0
}
