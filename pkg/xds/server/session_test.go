package server

import (
	"slices"
	"testing"

	"github.com/meshd-io/meshd/pkg/xds/envoy"
)

// asking is what is asked for and answered.
func asking() map[string]string {
	return map[string]string{
		"wildcard": `
			ask cluster
			want nothing
			publish cluster a=1 b=1 endpoint a=1 b=1
			want cluster a b
			want nothing
			ack cluster
			want nothing
			held cluster`,
		"a wildcard of nothing is answered": `
			publish listener x=1
			ask cluster
			want cluster
			ack cluster
			want nothing`,
		"star is the wildcard too": `
			publish cluster a=1 endpoint a=1
			ask cluster *
			want cluster a`,
		"subscribe and unsubscribe": `
			publish cluster a=1 b=1 endpoint a=1 b=1
			ask endpoint a
			want endpoint a
			ack endpoint
			ask endpoint b
			want endpoint b
			ack endpoint
			drop endpoint a
			publish cluster a=1 b=1 endpoint a=2 b=2
			want endpoint b`,
		"who asks again is answered, changed or not": `
			publish cluster a=1 endpoint a=1
			ask endpoint a
			want endpoint a
			ack endpoint
			ask endpoint a
			want endpoint a
			ask endpoint a
			want nothing
			ack endpoint
			want endpoint a
			ack endpoint
			want nothing`,
		"who comes back after an unsubscribe is answered": `
			publish cluster a=1 endpoint a=1
			ask endpoint a
			want endpoint a
			ack endpoint
			drop endpoint a
			ask endpoint a
			want endpoint a`,
		"what is not there is answered as removed": `
			settle
			publish cluster a=1 endpoint a=1
			ask endpoint a x
			want endpoint a
			ack endpoint
			want endpoint -x
			ack endpoint
			want nothing
			held endpoint`,
	}
}

// changing is what changes.
func changing() map[string]string {
	return map[string]string{
		"an equal translation sends nothing": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ack cluster
			publish cluster a=1 endpoint a=1
			want nothing`,
		"a change of endpoints is a change of endpoints": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ask endpoint a
			want endpoint a
			ack endpoint
			ack cluster
			publish cluster a=1 endpoint a=2
			want endpoint a
			held cluster`,
		"removed": `
			settle
			publish cluster a=1 b=1 endpoint a=1 b=1
			ask cluster
			want cluster a b
			ack cluster
			publish cluster a=1 endpoint a=1
			want cluster -b
			ack cluster
			want nothing
			held cluster`,
		"no listener changes before what a client uses is known again": `
			publish cluster in-local=1 endpoint in-local=1 listener out=2
			hold cluster in-local=1 out|10.244.0.1:80=1
			hold listener out=1
			want nothing
			publish cluster in-local=1 out|10.244.0.1:80=1 endpoint in-local=1 out|10.244.0.1:80=1 listener out=3
			want nothing
			settle
			want listener out`,
		"a listener changes once all scopes are known that a client came with": `
			publish cluster in-local=1 out|10.244.0.1:80=1 endpoint in-local=1 out|10.244.0.1:80=1 listener out=2
			hold cluster in-local=1 out|10.244.0.1:80=1
			hold listener out=1
			want nothing
			hold scope 10.244.0.1:80=1
			want nothing
			publish cluster in-local=1 out|10.244.0.1:80=1 endpoint in-local=1 out|10.244.0.1:80=1 scope 10.244.0.1:80=1 listener out=3
			want listener out`,
		"a client that used nothing gets its listener at once": `
			publish cluster in-local=1 endpoint in-local=1 listener out=2
			hold cluster in-local=1
			hold listener out=1
			want listener out`,
		"nothing is removed before it is settled": `
			publish cluster a=1 b=1 endpoint a=1 b=1
			ask cluster
			want cluster a b
			ack cluster
			publish cluster a=1 endpoint a=1
			want nothing
			settle
			want cluster -b`,
		"a stale nonce acknowledges nothing": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			stale cluster
			publish cluster a=2 endpoint a=1
			want nothing
			ack cluster
			want cluster a`,
		"one response of a type at a time, and the newest wins": `
			publish cluster a=1 endpoint a=1
			ask endpoint a
			want endpoint a
			publish cluster a=1 endpoint a=2
			publish cluster a=1 endpoint a=3
			want nothing
			ack endpoint
			want endpoint a
			ack endpoint
			want nothing`,
	}
}

// reconnecting is streams that were there before.
func reconnecting() map[string]string {
	return map[string]string{
		"a reconnect sends nothing that is held": `
			publish cluster a=1 b=1 endpoint a=1 b=1 listener x=1
			settle
			hold cluster a=1 b=1
			hold endpoint a=1 b=1 ask a b
			hold listener x=1
			want nothing
			held cluster
			held endpoint
			held listener`,
		"a reconnect sends what has changed, and removes what is gone": `
			publish cluster a=2 c=1 endpoint a=1 c=1
			settle
			hold cluster a=1 b=1
			want cluster a c
			hold endpoint a=1 b=1 ask a b
			want endpoint a
			ack cluster
			ack endpoint
			want cluster -b
			ack cluster
			want endpoint -b
			ack endpoint
			want nothing
			held cluster`,
	}
}

// ordering is what comes before what.
func ordering() map[string]string {
	return map[string]string{
		"a warming cluster gets its endpoints again": `
			publish cluster a=1 b=1 endpoint a=1 b=1
			ask cluster
			want cluster a b
			ask endpoint a b
			want endpoint a b
			ack endpoint
			ack cluster
			publish cluster a=2 b=1 endpoint a=1 b=1
			want cluster a ; endpoint a
			ack endpoint
			ack cluster
			want nothing`,
		"a cluster that changes while its endpoints are under way gets them again": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ack cluster
			ask endpoint a
			want endpoint a
			publish cluster a=2 endpoint a=1
			want cluster a
			ack endpoint
			want endpoint a`,
		"a scope in use waits for its cluster, a new one does not": `
			publish cluster a=1 endpoint a=1 scope s=1
			ask cluster
			ask endpoint a
			want cluster a ; endpoint a
			ack endpoint
			ack cluster
			ask scope
			want scope s
			ack scope
			publish cluster a=1 b=1 endpoint a=1 b=1 scope s=2 u=1
			want cluster b ; scope u
			ack scope
			want nothing
			ask endpoint b
			want endpoint b
			ack endpoint
			want nothing
			ack cluster
			want scope s
			ack scope
			want nothing
			held scope`,
		"a new scope waits until its cluster has been sent": `
			publish cluster a=1 endpoint a=1
			ask cluster
			ask endpoint a
			ask scope
			want cluster a ; endpoint a
			ack endpoint
			publish cluster a=1 b=1 endpoint a=1 b=1 scope u=1
			want nothing
			ack cluster
			want cluster b ; scope u`,
		"make before break": `
			settle
			publish cluster a=1 endpoint a=1 scope s=1 listener x=1
			ask cluster
			ask endpoint a
			ask scope
			ask listener
			want cluster a ; endpoint a ; scope s
			ack endpoint
			ack scope
			want nothing
			ack cluster
			want listener x
			ack listener
			publish cluster b=1 endpoint b=1 scope u=1 listener y=1
			want cluster b ; scope u
			ask endpoint b
			want endpoint b
			ack endpoint
			ack cluster
			want nothing
			ack scope
			want listener y
			ack listener
			want listener -x
			ack listener
			want scope -s
			ack scope
			want cluster -a
			ack cluster
			want endpoint -a
			ack endpoint
			want nothing`,
	}
}

// refusing is what an Envoy refuses.
func refusing() map[string]string {
	return map[string]string{
		"an assignment refused behind its changed cluster comes again as it was": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ack cluster
			ask endpoint a
			want endpoint a
			ack endpoint
			publish cluster a=2 endpoint a=2
			want cluster a ; endpoint a
			nack endpoint no such address
			ack cluster
			refused endpoint a
			want endpoint a
			ack endpoint
			want nothing`,
		"scopes come together, and a bad one takes nothing with it": `
			publish cluster a=1 endpoint a=1 scope r=1 s=1 u=1
			ask scope
			want scope r s u
			nack scope a key twice
			want scope r
			ack scope
			want scope s
			nack scope a key twice
			want scope u
			ack scope
			want nothing
			refused scope s
			publish cluster a=1 endpoint a=1 scope r=2 s=2 u=1
			want scope r s
			ack scope
			want nothing
			held scope`,
		"a refusal is narrowed down, and does not loop": `
			publish cluster a=1 b=1 c=1 endpoint a=1 b=1 c=1
			ask cluster
			want cluster a b c
			nack cluster something is wrong
			want cluster a
			ack cluster
			want cluster b
			nack cluster b is bad
			want cluster c
			ack cluster
			want nothing
			refused cluster b
			publish cluster a=2 b=1 c=1 endpoint a=1 b=1 c=1
			want cluster a
			ack cluster
			want nothing
			publish cluster a=2 b=2 c=1 endpoint a=1 b=1 c=1
			want cluster b
			ack cluster
			want nothing
			held cluster`,
		"a cluster that Envoy names is not sent again": `
			publish cluster a=1 b=1 c=1 endpoint a=1 b=1 c=1
			ask cluster
			want cluster a b c
			nack cluster Error adding/updating cluster(s) b: it is bad
			refused cluster b
			want cluster a
			ack cluster
			want cluster c
			ack cluster
			want nothing`,
		"what is refused is replaced by the last good version, for new streams too": `
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ack cluster
			publish cluster a=2 endpoint a=1
			want cluster a
			nack cluster bad
			want nothing
			held cluster
			reset
			hold cluster a=1
			want nothing
			reset
			ask cluster
			want cluster a
			ack cluster
			publish cluster a=3 endpoint a=1
			want cluster a`,
	}
}

// withholding is what becomes of refused versions.
func withholding() map[string]string {
	return map[string]string{
		"what was never good is neither sent nor removed": `
			publish cluster a=2 endpoint a=1
			ask cluster
			want cluster a
			nack cluster bad
			reset
			settle
			hold cluster a=1
			want nothing
			publish endpoint a=1
			want cluster -a`,
		"a refused removal does not loop": `
			settle
			publish cluster a=1 endpoint a=1
			ask cluster
			want cluster a
			ack cluster
			publish endpoint a=1
			want cluster -a
			nack cluster no
			want nothing`,
		"routes go on when a cluster was refused": `
			publish cluster a=1 endpoint a=1 listener x=1
			ask cluster
			want cluster a
			ask listener
			want nothing
			nack cluster bad
			want listener x`,
	}
}

// The delta protocol, case by case.
func TestProtocol(t *testing.T) {
	for _, cases := range []map[string]string{asking(), changing(), reconnecting(), ordering(), refusing(), withholding()} {
		for name, lines := range cases {
			t.Run(name, func(t *testing.T) { newScript(t, false).run(lines) })
		}
	}
}

func TestOnDemandWaits(t *testing.T) {
	c := newScript(t, true)
	acked := false
	c.after = func(r envoy.Ref, version string) bool {
		return acked && r == envoy.Ref{Type: envoy.ClusterType, Name: "a"} && version != ""
	}
	c.run(`
		ask on-demand dst|10.96.0.1:80
		publish cluster a=1 endpoint a=1
		want nothing
		publish cluster a=1 endpoint a=1 on-demand dst|10.96.0.1:80=1 dst|10.96.0.2:80=1
		want nothing`)
	acked = true
	c.run(`
		want on-demand dst|10.96.0.1:80
		ack on-demand
		want nothing
		held on-demand
		ask on-demand dst|10.96.0.3:80
		want nothing
		settle
		want nothing
		publish cluster a=1 endpoint a=1 on-demand dst|10.96.0.3:80=1
		want on-demand dst|10.96.0.3:80
		ack on-demand
		want on-demand -dst|10.96.0.1:80`)
	if want := []string{"dst|10.96.0.1:80", "dst|10.96.0.3:80"}; !slices.Equal(c.asked, want) {
		t.Errorf("demanded %v, want %v", c.asked, want)
	}
}

func TestOnDemandIsBounded(t *testing.T) {
	c := newScript(t, true)
	c.limits.Destinations = 2
	c.reset()
	c.run(`
		publish cluster a=1 endpoint a=1 on-demand dst|10.96.0.1:80=1 dst|10.96.0.2:80=1 dst|10.96.0.3:80=1
		ask on-demand dst|10.96.0.1:80 nonsense * dst|[fd00:0::1]:80 dst|10.96.0.2:80
		want on-demand -dst|[fd00:0::1]:80 -nonsense
		ack on-demand
		want on-demand dst|10.96.0.1:80 dst|10.96.0.2:80
		ack on-demand
		ask on-demand dst|10.96.0.3:80
		want on-demand -dst|10.96.0.3:80
		ack on-demand
		want nothing
		drop on-demand dst|10.96.0.1:80
		ask on-demand dst|10.96.0.3:80
		want on-demand dst|10.96.0.3:80`)
}

func TestOnDemandReconnect(t *testing.T) {
	newScript(t, true).run(`
		publish cluster a=1 endpoint a=1
		hold on-demand dst|10.96.0.1:80=1 ask dst|10.96.0.1:80 dst|10.96.0.2:80
		want nothing
		publish cluster a=1 endpoint a=1 on-demand dst|10.96.0.1:80=1 dst|10.96.0.2:80=1
		want on-demand dst|10.96.0.2:80
		ack on-demand
		settle
		want nothing`)
}
