// Package crdfiles embeds the CustomResourceDefinitions of meshd's kinds, as
// they are generated from api/v1alpha1, so that files are held to the very
// rules that an API server enforces.
package crdfiles

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var files embed.FS // go:embed needs a variable; nothing writes to it

// FS has one CustomResourceDefinition per file.
func FS() fs.FS { return files }
