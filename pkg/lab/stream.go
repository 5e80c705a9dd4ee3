package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// The streams of an exec, multiplexed on one connection: a byte for the
// stream, four for the length (big-endian), then that many of data.
const (
	streamStdin  byte = iota // towards the daemon; length 0 is the end of the input
	streamStdout             // from here on towards the client
	streamStderr
	streamExit // JSON of exitMessage, the last one
)

// maxFrame bounds a frame's data, in bytes.
const maxFrame = 64 << 10

// exitMessage ends an exec.
type exitMessage struct {
	Code int `json:"code"`
	// Error is the lab's own failure, "" if the command ran.
	Error string `json:"error,omitempty"`
}

// frameWriter writes frames; streams may be used side by side.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(stream byte, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := make([]byte, 5, 5+len(data))
	frame[0] = stream
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	_, err := f.w.Write(append(frame, data...))
	return err
}

// streamWriter is one stream of a frameWriter.
type streamWriter struct {
	frames *frameWriter
	stream byte
}

func (s streamWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, maxFrame)
		if err := s.frames.write(s.stream, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// readFrame reads one frame.
func readFrame(r io.Reader) (stream byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(r, data)
	return head[0], data, err
}
