// Package status turns findings and acknowledgements into the status of
// objects. Rendering is pure: the time is an argument and the former status an
// input, so that lastTransitionTime moves only on a transition.
package status
