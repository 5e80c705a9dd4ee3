// Package memo computes values from values, and again only what has changed.
//
// A Graph has tables in an order. Inputs are set from outside. A Table's value
// of a key is a pure function of what the function reads, of tables before it:
// each read is noted, and a value is computed again when one that it has read
// is another. Where the new value equals the old one, the old one stays and
// nothing behind it moves. An Index turns relations round: it groups the values
// of a table by other keys. Nobody writes down what depends on what, so that
// nobody can forget to: a Graph that was changed step by step holds what a new
// one would.
//
//	Input --> Table --> Index --> Table --> Watch
package memo
