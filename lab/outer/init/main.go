// Command init is the smallest PID 1 of the lab's outer machine, for callers
// that do not have a warder binary of the machine's architecture at hand.
package main

import "warder/lab/outer"

func main() { outer.Main() }
