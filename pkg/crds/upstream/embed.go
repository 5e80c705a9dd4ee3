// Package upstream embeds the CustomResourceDefinitions of other projects'
// kinds that meshd reads, so that files are held to the rules that an API server
// enforces. meshd does not install them.
package upstream

import (
	"embed"
	"io/fs"
)

//go:embed *.yaml
var files embed.FS // go:embed needs a variable; nothing writes to it

// FS has one CustomResourceDefinition per file.
func FS() fs.FS { return files }
