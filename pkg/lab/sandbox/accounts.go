package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// nameUser gives the container's user and group a name if the machine has none
// for their numbers, in the container's private /etc: many servers (initdb,
// ssh, whatever calls getpwuid) end without. An image would bring them.
func nameUser(u User) {
	uid, gid := strconv.Itoa(int(u.UID)), strconv.Itoa(int(u.GID))
	// Best effort: most programs run without a name.
	_ = addAccount("/etc/passwd", uid, fmt.Sprintf("user%s:x:%s:%s::/:/bin/sh\n", uid, uid, gid))
	_ = addAccount("/etc/group", gid, fmt.Sprintf("group%s:x:%s:\n", gid, gid))
}

// addAccount adds a line to a file of accounts whose third field is the number,
// unless there is one. The file is replaced, not appended to: without root the
// machine's own file cannot be copied up.
func addAccount(file, id, line string) error {
	content, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	const idField = 2
	for l := range bytes.Lines(content) {
		if f := bytes.Split(l, []byte(":")); len(f) > idField && string(bytes.TrimSpace(f[idField])) == id {
			return nil
		}
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		content = append(content, '\n')
	}
	next := file + ".meshd-lab"
	if err := os.WriteFile(next, append(content, line...), 0o644); err != nil {
		return err
	}
	return os.Rename(next, file)
}
