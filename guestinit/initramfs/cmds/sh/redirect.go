package main

import (
	"fmt"

	"mvdan.cc/sh/v3/syntax"
)

// redirections says which redirection of a program the interpreter cannot do. It
// would panic at it, on a goroutine of its own in a pipeline.
func redirections(prog syntax.Node) (err error) {
	syntax.Walk(prog, func(n syntax.Node) bool {
		if rd, ok := n.(*syntax.Redirect); ok && err == nil {
			if why := unsupported(rd); why != "" {
				err = fmt.Errorf("%v: %s", rd.Pos(), why)
			}
		}
		return err == nil
	})
	return err
}

// unsupported says why a redirection cannot be done, "" if it can.
func unsupported(rd *syntax.Redirect) string {
	if rd.N != nil && rd.N.Value != "0" && rd.N.Value != "1" && rd.N.Value != "2" {
		return fmt.Sprintf("this shell cannot redirect file descriptor %s, only 0, 1 and 2", rd.N.Value)
	}
	arg := ""
	if rd.Word != nil {
		arg = rd.Word.Lit() // "" for one that is only known when it runs
	}
	switch rd.Op {
	case syntax.DplOut:
		if arg != "" && arg != "1" && arg != "2" && arg != "-" {
			return fmt.Sprintf("this shell cannot do >&%s, only >&1, >&2 and >&-", arg)
		}
	case syntax.DplIn:
		if arg != "" && arg != "-" {
			return fmt.Sprintf("this shell cannot do <&%s, only <&-", arg)
		}
	case syntax.RdrIn, syntax.RdrOut, syntax.AppOut, syntax.RdrAll, syntax.AppAll, syntax.Hdoc, syntax.DashHdoc, syntax.WordHdoc:
	default:
		return fmt.Sprintf("this shell cannot do %v", rd.Op)
	}
	return ""
}
