package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// accountMounts gives the container's user and group a name if the machine has
// none for their numbers: many servers (initdb, ssh, whatever calls getpwuid)
// end without. An image would bring them. The files are mounts, because
// without root the machine's own cannot be replaced even in the overlay.
func accountMounts(u User, layer string) ([]Mount, error) {
	uid, gid := strconv.Itoa(int(u.UID)), strconv.Itoa(int(u.GID))
	var out []Mount
	for _, a := range []struct{ file, id, line string }{
		{"/etc/passwd", uid, fmt.Sprintf("user%s:x:%s:%s::/:/bin/sh\n", uid, uid, gid)},
		{"/etc/group", gid, fmt.Sprintf("group%s:x:%s:\n", gid, gid)},
	} {
		content, err := os.ReadFile(a.file)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		if hasAccount(content, a.id) {
			continue
		}
		if len(content) > 0 && content[len(content)-1] != '\n' {
			content = append(content, '\n')
		}
		file := filepath.Join(layer, filepath.Base(a.file))
		if err := os.WriteFile(file, append(content, a.line...), 0o644); err != nil {
			return nil, err
		}
		out = append(out, Mount{Source: file, Target: a.file})
	}
	return out, nil
}

// hasAccount tells whether a file of accounts has a line whose third field is
// the number.
func hasAccount(content []byte, id string) bool {
	const idField = 2
	for l := range bytes.Lines(content) {
		if f := bytes.Split(l, []byte(":")); len(f) > idField && string(bytes.TrimSpace(f[idField])) == id {
			return true
		}
	}
	return false
}
