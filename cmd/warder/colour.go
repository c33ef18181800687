package main

import (
	"os"
	"regexp"
	"unicode/utf8"

	"golang.org/x/term"
)

// The terminal's codes for what stands out.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[1;31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

// coloured says whether what is written to f may have colours: it is a terminal,
// and NO_COLOR is not set.
func coloured(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

// paint gives s a colour, if there are to be any.
func paint(on bool, colour, s string) string {
	if !on {
		return s
	}
	return colour + s + plain
}

var codes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// cells is how many places s takes on a terminal; it has no character of ours that
// takes two.
func cells(s string) int { return utf8.RuneCountInString(codes.ReplaceAllString(s, "")) }
