// Package app reads what application protocols say about themselves at their
// beginning: names that are asked for, heads of requests, the first message of an
// encrypted connection.
//
// Everything read is a guest's. Parsers look at no byte beyond what they were
// given, follow nothing without end, and give short strings of printable text.
package app
