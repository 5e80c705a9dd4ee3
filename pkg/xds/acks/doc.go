// Package acks is the feedback lane: what every live proxy has acknowledged.
//
//	server --Event--> Fold --> Ledger --> status.Render, console
//
// Fold is pure: a Ledger is a value and events are facts. Progress answers, for
// one object, how far the proxies are that it concerns.
package acks
