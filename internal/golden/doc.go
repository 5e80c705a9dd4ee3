// Package golden compares what a test got with a file under testdata. Run the
// tests of a package with -update to rewrite its files, then read the diff.
// It is for tests only.
package golden
