package sandbox

import (
	"slices"
	"testing"
)

func TestParseMount(t *testing.T) {
	const line = `36 35 98:0 /mnt1 /mnt\040a/b rw,nosuid shared:1 master:2 - ext3 /dev/root rw,errors=continue`
	got, ok := parseMount(line)
	want := machineMount{point: "/mnt a/b", options: "rw,nosuid", fstype: "ext3"}
	if !ok || got != want {
		t.Errorf("got %+v, %v", got, ok)
	}
	for _, bad := range []string{"", "36 35 98:0 / /mnt rw", "x - y"} {
		if _, ok := parseMount(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestBelow(t *testing.T) {
	for path, want := range map[string]bool{"/a": true, "/a/b": true, "/ab": false, "/": false} {
		if got := below(path, "/a"); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestCapabilityMask(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  uint64
	}{
		{nil, 0},
		{[]string{"CHOWN"}, 1},
		{[]string{"cap_net_admin", "NET_BIND_SERVICE"}, 1<<12 | 1<<10},
		{[]string{"CHECKPOINT_RESTORE"}, 1 << 40},
		{[]string{"ALL"}, 1<<41 - 1},
	} {
		if got, err := capabilityMask(c.names); err != nil || got != c.want {
			t.Errorf("%v: %x, %v", c.names, got, err)
		}
	}
	if _, err := capabilityMask([]string{"NET"}); err == nil {
		t.Error("NET was taken")
	}
}

func TestHasAccount(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/:/bin/false"
	for id, want := range map[string]bool{"0": true, "33": true, "3": false, "www-data": false} {
		if got := hasAccount([]byte(passwd), id); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
}

func TestWithPath(t *testing.T) {
	env := []string{"A=1"}
	if got := withPath(env); !slices.Equal(got, []string{"A=1", defaultPath}) || len(env) != 1 {
		t.Errorf("got %v", got)
	}
	if got := withPath([]string{"PATH=/x"}); !slices.Equal(got, []string{"PATH=/x"}) {
		t.Errorf("got %v", got)
	}
}
