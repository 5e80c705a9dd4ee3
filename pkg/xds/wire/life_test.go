package wire

import (
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

func TestDrainEndsStreamsBehindTheirMessages(t *testing.T) {
	f := serve(t, Config{}, nil)
	c := f.hello(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
	c.open(1, holdMethod)
	c.open(3, holdMethod)
	idle, waits := f.next(), f.next()
	waits.send("much")
	c.expect(3) // nothing
	drained := inBackground(func() { f.Drain(shortly(t), 0) })
	away := c.until("GOAWAY", func(e event) bool { return e.Type == http2.FrameGoAway })
	if away.code != http2.ErrCodeNo || away.last != 3 {
		t.Errorf("GOAWAY with %s, the last stream %d", away.code, away.last)
	}
	c.status(1, codes.Unavailable)
	idle.ends()
	waits.ends()
	c.conn.Close()
	within(t, drained, "the end of Drain")
}
