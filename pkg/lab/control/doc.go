// Package control has the controllers of the lab as pure functions: from what
// is in the store to what is to be done next. They are run again after every
// change, so that each needs to say the next steps only.
package control
