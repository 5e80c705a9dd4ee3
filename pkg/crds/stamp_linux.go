package crds

import (
	"os"
	"syscall"
	"time"
)

// stamp tells two versions of a file apart without reading it.
type stamp struct {
	device, inode uint64
	size          int64
	// changed is the time of the last change of content or inode, which no program can set.
	changed time.Time
}

func stampOf(info os.FileInfo) stamp {
	s := stamp{size: info.Size(), changed: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode = st.Dev, st.Ino
		s.changed = time.Unix(st.Ctim.Unix())
	}
	return s
}
