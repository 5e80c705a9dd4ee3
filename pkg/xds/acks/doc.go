// Package acks is the feedback lane: what every live proxy has acknowledged.
//
//	server --Event--> Fold --> Ledger --> status.Render, console
//
// Fold is pure: a Ledger is a value and events are facts. A Book folds events as
// they come, at a cost that does not grow with the proxies, and makes a Ledger
// when somebody reads. Progress answers, for one object, how far the proxies are
// that it concerns: once for all that stand at the same point.
package acks
