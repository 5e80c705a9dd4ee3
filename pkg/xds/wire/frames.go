package wire

import "golang.org/x/net/http2"

// maxBlock is the longest block of headers with its continuations, in bytes.
const maxBlock = 4 * maxHeaders

// wholeFrames is how many of the bytes are frames that have come to their end, as
// a Framer cannot go on where it has stopped. A block of headers ends with its last
// continuation (RFC 9113, 4.3). Where a Framer finds a mistake in a frame's header,
// that header is enough.
func wholeFrames(b []byte) (int, error) {
	end, block := 0, false
	for at := 0; len(b)-at >= frameHeader; {
		size := int(b[at])<<16 | int(b[at+1])<<8 | int(b[at+2])
		kind, flags := http2.FrameType(b[at+3]), http2.Flags(b[at+4])
		at += frameHeader
		if size > chunk || block != (kind == http2.FrameContinuation) {
			return at, nil // a mistake
		}
		if len(b)-at < size {
			break
		}
		at += size
		if kind == http2.FrameHeaders || kind == http2.FrameContinuation {
			block = !flags.Has(http2.FlagHeadersEndHeaders)
		}
		if !block {
			end = at
		}
	}
	if block && len(b)-end > maxBlock {
		return 0, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return end, nil
}
