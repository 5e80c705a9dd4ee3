package network

import (
	"errors"
	"net/netip"
)

// pool gives out pairs of pod addresses with the same offset, in order.
type pool struct {
	pods Range
	next int
	free []int // given back, oldest first
}

func newPool(pods Range) pool { return pool{pods: pods, next: firstPod} }

// take returns the next pair. Only when the range has been walked through are
// addresses given a second time, those that were free the longest first.
func (p *pool) take() ([]netip.Addr, error) {
	n := p.next
	// The last IPv4 address is the broadcast address.
	if after := nth(p.pods.V4, n+1); after.IsValid() {
		p.next++
	} else if len(p.free) > 0 {
		n, p.free = p.free[0], p.free[1:]
	} else {
		return nil, errors.New("no pod address is free")
	}
	return []netip.Addr{nth(p.pods.V4, n), nth(p.pods.V6, n)}, nil
}

// give returns a pair.
func (p *pool) give(addrs []netip.Addr) {
	b, base := addrs[0].As4(), p.pods.V4.Addr().As4()
	n := 0
	for i := range b {
		n = n<<8 + int(b[i]) - int(base[i])
	}
	p.free = append(p.free, n)
}
