package server

import "time"

// Limits bound what one proxy can make meshd keep. A zero field takes its default.
type Limits struct {
	// Names that one stream may subscribe to, per type; default 20000.
	Names int
	// Destinations that one proxy may have in use; default 2000. Those beyond are refused.
	Destinations int
	// NameBytes is the longest name; default 512.
	NameBytes int
}

func (l Limits) withDefaults() Limits {
	if l.Names == 0 {
		l.Names = 20000
	}
	if l.Destinations == 0 {
		l.Destinations = 2000
	}
	if l.NameBytes == 0 {
		l.NameBytes = 512
	}
	return l
}

// Grace is how long nothing is removed from a sidecar that has not brought its
// on-demand stream back: longer than Envoy's longest back-off in meshd's bootstrap (3 s).
const Grace = 15 * time.Second
