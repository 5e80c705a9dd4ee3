package crds

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshd-io/meshd/pkg/report"
)

// sourceFile is a file as it was last read. It is immutable.
type sourceFile struct {
	path string
	// stamp is what the file system said just before; a file with an equal one is not read again,
	// except where racy: written so close to the reading that a later write may leave the stamp alone.
	stamp stamp
	racy  bool
	sum   [sha256.Size]byte
	// declarations in the file's order.
	declarations []declaration
}

// opaque reports whether something in the file cannot be read, so that it may
// declare any object.
func (f *sourceFile) opaque() bool {
	return slices.ContainsFunc(f.declarations, func(d declaration) bool {
		return !d.ignored && d.object == nil && !d.named()
	})
}

// racyWindow is wider than the time stamps of Linux's local file systems are
// coarse (a tick, 10 ms at the most). Others send no events by which a second
// write could be missed.
const racyWindow = 100 * time.Millisecond

// readFile reads and decodes a file, or gives known where its content is the
// same. A file that is not there is an error that fs.ErrNotExist matches; one
// that cannot be read is a sourceFile that declares nothing but the fault.
func readFile(path string, known *sourceFile) (*sourceFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return refuseFile(path, stamp{}, err)
	}
	st := stampOf(info)
	if known != nil && known.stamp == st && !known.racy {
		return known, nil
	}
	read := time.Now() // compared with the file system's clock, not with ours
	data, err := readBounded(path)
	if err != nil {
		return refuseFile(path, st, err)
	}
	f := &sourceFile{path: path, stamp: st, racy: st.changed.After(read.Add(-racyWindow)), sum: sha256.Sum256(data)}
	if known != nil && known.sum == f.sum {
		f.declarations = known.declarations
	} else {
		f.declarations = decodeFile(path, data)
	}
	return f, nil
}

// readBounded reads one byte more than is allowed at the most, so that decodeFile sees the excess.
func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFileBytes+1))
}

func refuseFile(path string, st stamp, err error) (*sourceFile, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &sourceFile{path: path, stamp: st, racy: true, declarations: []declaration{unreadable(path, err.Error())}}, nil
}

// unreadable declares nothing that has a name.
func unreadable(file, message string) declaration {
	return declaration{line: 1, findings: []report.Finding{{
		Condition: report.Accepted, Reason: report.Unreadable, File: file, Message: message,
	}}}
}

// listFiles gives the YAML and JSON files below a folder, sorted, without
// hidden ones, or the path itself where it is a file. enter, when there is one,
// is called with each folder before it is read.
func listFiles(root string, enter func(folder string)) ([]string, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if !info.IsDir() {
		if enter != nil {
			enter(filepath.Dir(root))
		}
		return []string{root}, nil
	}
	l := lister{enter: enter}
	if err := l.list(root, nil); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	slices.Sort(l.files)
	return l.files, nil
}

type lister struct {
	enter func(folder string)
	files []string
}

// list follows symbolic links, but not into a folder that it is in already.
func (l *lister) list(folder string, above []os.FileInfo) error {
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(above, func(a os.FileInfo) bool { return os.SameFile(a, info) }) {
		return nil
	}
	if l.enter != nil {
		l.enter(folder)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	above = append(slices.Clip(above), info)
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		isFolder := entry.IsDir()
		if entry.Type()&fs.ModeSymlink != 0 {
			target, err := os.Stat(path)
			isFolder = err == nil && target.IsDir()
		}
		if !isFolder {
			if isSource(entry.Name()) {
				l.files = append(l.files, path)
			}
			continue
		}
		if err := l.list(path, above); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func isSource(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
