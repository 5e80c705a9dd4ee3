package lab

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReadDocuments reads the files that a user names: a file, or the *.yaml,
// *.yml and *.json files of a folder and those below it, hidden ones left out.
func ReadDocuments(paths []string) ([]Document, error) {
	var out []Document
	for _, p := range paths {
		docs, err := readPath(p)
		if err != nil {
			return nil, err
		}
		if len(docs) == 0 {
			return nil, fmt.Errorf("%s has no *.yaml, *.yml or *.json file", p)
		}
		out = append(out, docs...)
	}
	return out, nil
}

func readPath(root string) ([]Document, error) {
	var out []Document
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := path != root && strings.HasPrefix(e.Name(), ".")
		if e.IsDir() {
			if hidden {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || path != root && !isObjectFile(path) {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out = append(out, Document{File: path, Content: raw})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading objects: %w", err)
	}
	return out, nil
}

func isObjectFile(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
