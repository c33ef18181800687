// Package hostinfo tells what a host offers to virtual machines. It looks, and
// changes nothing.
package hostinfo
