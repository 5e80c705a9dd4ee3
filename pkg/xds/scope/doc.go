// Package scope decides what one kind of proxy may see: Node -> Key, and
// Mesh x Key x Demand -> View.
//
// A View is all that translation gets. What is not in it cannot change a byte,
// so equal Views may share everything made from them. KeyFor is the only
// reader of a Node. Pure.
package scope
