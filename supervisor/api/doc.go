// Package api is how commands reach the VMs of other processes: HTTP with JSON
// over a Unix socket.
//
// Each process that hosts VMs has one socket, in a directory that is its
// user's alone ([Dir]). Whoever wants a VM looks at all sockets there. A
// server speaks to processes of its own user and of root, by the credentials
// that the kernel vouches for; everything else is refused.
//
// An answer is one JSON value, or a stream of lines each of which is an [Item].
// An error is an [Error] with a code that does not change between versions and
// a text that may.
package api
