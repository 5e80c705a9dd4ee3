package capture

import (
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Each of these is what a few words of nft's language compile to. All use
// register 1 alone, so that they follow one another freely.

// ctDestinationNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const ctDestinationNAT = 1 << 5

// redirectToPort is NF_NAT_RANGE_PROTO_SPECIFIED of linux/netfilter/nf_nat.h.
const redirectToPort = 1 << 1

func tcp() []expr.Any  { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP}) }
func ipv4() []expr.Any { return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{unix.NFPROTO_IPV4}) }
func ipv6() []expr.Any { return meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{unix.NFPROTO_IPV6}) }

func meta(key expr.MetaKey, op expr.CmpOp, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: value}}
}

// in and out compare the interface with lo.
func in(op expr.CmpOp) []expr.Any  { return meta(expr.MetaKeyIIFNAME, op, loopback()) }
func out(op expr.CmpOp) []expr.Any { return meta(expr.MetaKeyOIFNAME, op, loopback()) }

func loopback() []byte {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return name
}

// uid matches packets of a local socket by its owner; one without a socket matches neither way.
func uid(op expr.CmpOp, id uint32) []expr.Any {
	return meta(expr.MetaKeySKUID, op, binaryutil.NativeEndian.PutUint32(id))
}

func toPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// source and destination compare an address with a prefix; they tell the
// protocol first, since a header is read by its layout.
func source(op expr.CmpOp, p netip.Prefix) []expr.Any {
	if p.Addr().Is4() {
		return prefix(ipv4(), 12, op, p)
	}
	return prefix(ipv6(), 8, op, p)
}

func destination(op expr.CmpOp, p netip.Prefix) []expr.Any {
	if p.Addr().Is4() {
		return prefix(ipv4(), 16, op, p)
	}
	return prefix(ipv6(), 24, op, p)
}

func prefix(family []expr.Any, offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	return append(family,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// local matches what is addressed to the namespace itself, not through it.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// direct matches connections that no rule has redirected.
func direct() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(ctDestinationNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

func leave() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

func refuse() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1, RegisterProtoMax: 1, Flags: redirectToPort},
	}
}
