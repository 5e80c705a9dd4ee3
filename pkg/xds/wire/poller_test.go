package wire

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

// TestWholeFrames: of every beginning of some frames, what a framer can read to the end.
func TestWholeFrames(t *testing.T) {
	data := string(frameOf(http2.FrameData, 0, 1, "data"))
	empty := string(frameOf(http2.FrameSettings, 0, 0, ""))
	block := string(frameOf(http2.FrameHeaders, 0, 3, "abc")) + string(frameOf(http2.FrameContinuation, 0, 3, "")) +
		string(frameOf(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, "def"))
	ends := map[int]int{}
	said := ""
	for _, part := range []string{data, empty, block, data} {
		for n := len(said); n < len(said)+len(part); n++ {
			ends[n] = len(said)
		}
		said += part
	}
	ends[len(said)] = len(said)
	for n, want := range ends {
		if got, err := wholeFrames([]byte(said[:n])); got != want || err != nil {
			t.Errorf("of %d bytes %d are whole (%v), want %d", n, got, err, want)
		}
	}
	large := string(frameOf(http2.FrameData, 0, 1, strings.Repeat("x", chunk)))
	open := string(frameOf(http2.FrameHeaders, 0, 3, "abc"))
	for name, m := range map[string]struct {
		said string
		want int
	}{
		"the largest frame":        {large, len(large)},
		"a larger one":             {data + "\x00\x40\x01" + large[3:frameHeader], len(data) + frameHeader},
		"a block that is left":     {open + data[:frameHeader], len(open) + frameHeader},
		"a continuation of none":   {data + block[len(open):len(open)+frameHeader], len(data) + frameHeader},
		"the longest block so far": {open + strings.Repeat(block[len(open):len(open)+frameHeader], (maxBlock-len(open))/frameHeader), 0},
	} {
		if got, err := wholeFrames([]byte(m.said)); got != m.want || err != nil {
			t.Errorf("%s: %d are whole (%v), want %d", name, got, err, m.want)
		}
	}
	var mistake http2.ConnectionError
	_, err := wholeFrames([]byte(open + strings.Repeat(block[len(open):len(open)+frameHeader], maxBlock/frameHeader)))
	if !errors.As(err, &mistake) || http2.ErrCode(mistake) != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("a block without end: %v", err)
	}
}

// TestWhoSaysMuchHoldsUpNobody, nor who says so little that every frame comes in parts.
func TestWhoSaysMuchHoldsUpNobody(t *testing.T) {
	f := serveTLS(t, Config{})
	const count = 4
	quiet := make([]*raw, count*runtime.GOMAXPROCS(0)) // of every poller
	for i := range quiet {
		quiet[i] = f.with(t)
		f.next()
	}
	ended := make([]<-chan struct{}, 0, len(quiet))
	for i := range len(quiet) {
		c := f.with(t)
		f.next()
		said := strings.Repeat(string(frameOf(http2.FrameSettings, http2.FlagSettingsAck, 0, "")), 1000)
		size := []int{1, 7, len(said)}[i%3]
		ended = append(ended, inBackground(func() {
			for at := 0; ; at = (at + size) % len(said) {
				if _, err := c.conn.Write([]byte(said[at:min(len(said), at+size)])); err != nil {
					return
				}
			}
		}))
	}
	for range 20 {
		for _, c := range quiet {
			c.say(1, "others live")
			c.expect(1, "others live")
		}
	}
	f.Close()
	for _, e := range ended {
		within(t, e, "the end of who says much")
	}
}

// TestDescriptors: a connection leaves none, however it ends.
func TestDescriptors(t *testing.T) {
	f := serveTLS(t, Config{})
	comeAndGo := func(how int) {
		c := f.with(t)
		p := f.next()
		switch how {
		case 0:
			c.say(1, "fail: it")
			c.status(1, codes.InvalidArgument)
		case 1:
			c.do(c.WriteWindowUpdate(0, 1<<31-1))
			c.goAway(http2.ErrCodeFlowControl)
		case 2:
			p.tx.conn.leave("of the test")
			c.status(1, codes.Unavailable)
		}
		c.conn.Close()
		p.ends()
	}
	comeAndGo(0)
	before := descriptors(t)
	for i := range 100 {
		comeAndGo(i % 4)
	}
	eventually(t, "all are closed", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
