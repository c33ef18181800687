// Package hostinfo tells what a host offers to virtual machines: it looks, and
// changes nothing.
package hostinfo
