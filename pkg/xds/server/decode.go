package server

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// request is an envoy.service.discovery.v3.DeltaDiscoveryRequest. Generated code
// makes a map and some thousand strings of what a proxy names when it comes back;
// here all names are parts of one string: whatever is kept of them is cloned. What
// is bytes is the message's, and lasts as long.
type request struct {
	node        []byte // a core.v3.Node, encoded; nil: none
	typeURL     []byte
	subscribe   []string
	unsubscribe []string
	initial     versions
	nonce       []byte
	refusal     []byte // a google.rpc.Status, encoded; nil: none
}

// versions of resources, sorted by name, each name once.
type versions []version

type version struct{ name, version string }

// of is a resource's version; "" is none.
func (v versions) of(name string) string {
	i, ok := slices.BinarySearchFunc(v, name, func(one version, name string) int { return cmp.Compare(one.name, name) })
	if !ok {
		return ""
	}
	return v[i].version
}

// Fields of envoy.service.discovery.v3.DeltaDiscoveryRequest, and of its map's entries.
const (
	fieldNode            = 1
	fieldRequestTypeURL  = 2
	fieldSubscribe       = 3
	fieldUnsubscribe     = 4
	fieldInitialVersions = 5
	fieldResponseNonce   = 6
	fieldErrorDetail     = 7

	fieldEntryKey   = 1
	fieldEntryValue = 2
)

// errMalformed ends a stream.
var errMalformed = status.Error(codes.InvalidArgument, "not a DeltaDiscoveryRequest")

// decode refuses what no Envoy of this mesh says. Where there are no names, as in
// an acknowledgement, nothing is copied.
func decode(message []byte, limits Limits) (r request, err error) {
	counts, err := count(message)
	if err != nil {
		return request{}, err
	}
	for _, n := range counts {
		if n > limits.Names {
			return request{}, status.Errorf(codes.ResourceExhausted, "more than %d names in a request", limits.Names)
		}
	}
	r.subscribe = slices.Grow(r.subscribe, counts[fieldSubscribe])
	r.unsubscribe = slices.Grow(r.unsubscribe, counts[fieldUnsubscribe])
	r.initial = slices.Grow(r.initial, counts[fieldInitialVersions])
	var text string
	if counts[fieldSubscribe]+counts[fieldUnsubscribe]+counts[fieldInitialVersions] > 0 {
		text = string(message)
	}
	for len(message) > 0 {
		f, err := next(&message, text)
		if err == nil {
			err = r.take(f, limits)
		}
		if err != nil {
			return request{}, err
		}
	}
	slices.SortFunc(r.initial, func(a, b version) int { return strings.Compare(a.name, b.name) })
	r.initial = slices.CompactFunc(r.initial, func(a, b version) bool { return a.name == b.name })
	return r, nil
}

// take takes one field in.
func (r *request) take(f field, limits Limits) (err error) {
	var name string
	var v version
	switch f.number {
	case fieldNode:
		r.node = f.bytes
	case fieldErrorDetail:
		r.refusal = f.bytes
	case fieldRequestTypeURL:
		r.typeURL, err = f.bytes, f.isWord(limits)
	case fieldResponseNonce:
		r.nonce, err = f.bytes, f.isWord(limits)
	case fieldSubscribe:
		name, err = f.word(limits)
		r.subscribe = append(r.subscribe, name)
	case fieldUnsubscribe:
		name, err = f.word(limits)
		r.unsubscribe = append(r.unsubscribe, name)
	case fieldInitialVersions:
		v, err = f.version(limits)
		r.initial = append(r.initial, v)
	}
	return err
}

// count is how often each field is there.
func count(message []byte) (counts [fieldErrorDetail + 1]int, err error) {
	for len(message) > 0 {
		number, _, n := protowire.ConsumeField(message)
		if n < 0 {
			return counts, errMalformed
		}
		if int(number) < len(counts) {
			counts[number]++
		}
		message = message[n:]
	}
	return counts, nil
}

// field is one of a message; its text is its bytes, where there is text.
type field struct {
	number protowire.Number // 0: of no type that is wanted
	bytes  []byte
	text   string
}

// next cuts a field from the front of a message, which is the end of text, or there is none.
func next(message *[]byte, text string) (field, error) {
	number, wireType, n := protowire.ConsumeTag(*message)
	if n < 0 {
		return field{}, errMalformed
	}
	rest := (*message)[n:]
	if wireType != protowire.BytesType {
		m := protowire.ConsumeFieldValue(number, wireType, rest)
		if m < 0 {
			return field{}, errMalformed
		}
		*message = rest[m:]
		return field{}, nil
	}
	value, m := protowire.ConsumeBytes(rest)
	if m < 0 {
		return field{}, errMalformed
	}
	*message = rest[m:]
	if text != "" {
		end := len(text) - len(*message)
		text = text[end-len(value) : end]
	}
	return field{number, value, text}, nil
}

// isWord refuses what is no text, or longer than a name may be.
func (f field) isWord(limits Limits) error {
	switch {
	case len(f.bytes) > limits.NameBytes:
		return status.Errorf(codes.InvalidArgument, "a name, version or type of %d bytes, at most %d", len(f.bytes), limits.NameBytes)
	case !utf8.Valid(f.bytes):
		return errMalformed
	}
	return nil
}

// word is a field's text.
func (f field) word(limits Limits) (string, error) {
	if err := f.isWord(limits); err != nil {
		return "", err
	}
	return f.text, nil
}

// version reads an entry of a map.
func (f field) version(limits Limits) (v version, err error) {
	for entry := f.bytes; len(entry) > 0; {
		part, err := next(&entry, f.text)
		switch {
		case err != nil:
		case part.number == fieldEntryKey:
			v.name, err = part.word(limits)
		case part.number == fieldEntryValue:
			v.version, err = part.word(limits)
		}
		if err != nil {
			return version{}, err
		}
	}
	return v, nil
}
