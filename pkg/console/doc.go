// Package console is what an operator sees: the JSON that meshd's admin socket
// serves and the command line reads.
package console
