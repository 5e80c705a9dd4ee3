package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// How this binary is executed again: argv[0] tells the part it plays.
const (
	selfExe  = "/proc/self/exe"
	argPID1  = "meshd-lab-pid1"
	argInit  = "meshd-lab-init"
	fdConfig = 3 // JSON, both parts
	fdResult = 4 // an error message, or nothing
	fdExtra  = 5 // init: the network namespace, or the pidfd to join
)

// RunChild takes over the process if it was executed as PID 1 of a lab or as
// the set-up of a container (told by argv[0]); it does not return then.
// Otherwise it does nothing. Call it before anything else in main.
func RunChild() {
	if len(os.Args) == 0 {
		return
	}
	var err error
	switch os.Args[0] {
	case argPID1:
		err = runPID1()
	case argInit:
		// Namespaces and credentials belong to threads: what follows must
		// happen on the one that executes the command.
		runtime.LockOSThread()
		err = runInit()
	default:
		return
	}
	// Only reached when the set-up failed: the other side reads why.
	result := os.NewFile(fdResult, "result")
	fmt.Fprint(result, err)
	result.Close()
	os.Exit(1)
}

// sealDescriptors keeps the descriptors of the set-up from what is executed.
func sealDescriptors(last int) {
	for fd := fdConfig; fd <= last; fd++ {
		unix.CloseOnExec(fd)
	}
}
