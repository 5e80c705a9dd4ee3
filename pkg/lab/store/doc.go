// Package store plays the API server of the lab: it holds the objects, gives
// them what an API server gives (uid, generation, addresses of Services,
// default service accounts) and mirrors what meshd reads to a folder of files.
//
// Objects in the store are never changed in place: who wants another version
// puts a copy.
package store
