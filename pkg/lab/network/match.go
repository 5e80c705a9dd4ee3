package network

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Offsets and lengths in the IP and transport headers, bytes.
const (
	source4, destination4 = 12, 16
	source6, destination6 = 8, 24
	destinationPort       = 2
)

func matchSource(a netip.Addr) []expr.Any { return matchAddr(single(a), source4, source6) }
func matchDestination(a netip.Addr) []expr.Any {
	return matchAddr(single(a), destination4, destination6)
}
func matchPrefix(p netip.Prefix) []expr.Any { return matchAddr(p, destination4, destination6) }

// matchAddr compares a header's address with a prefix.
func matchAddr(p netip.Prefix, offset4, offset6 uint32) []expr.Any {
	a := p.Addr()
	offset, size := offset6, uint32(a.BitLen()/8)
	if a.Is4() {
		offset = offset4
	}
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(family(a))}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if !p.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: size,
			Mask: net.CIDRMask(p.Bits(), a.BitLen()), Xor: make([]byte, size),
		})
	}
	return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()})
}

func matchL4(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
	}
}

func matchPort(p ServicePort) []expr.Any {
	proto := byte(unix.IPPROTO_TCP)
	if p.Protocol == UDP {
		proto = unix.IPPROTO_UDP
	}
	return append(matchL4(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p.Port)})
}
