// Package analysis holds the project's own rules as tests: the arrows between
// packages, what each file must look like, what the documents claim.
//
// Each rule is a function from a file tree or a list of packages to complaints.
// One test applies it to this repository, another shows that it complains of a
// small tree that breaks it.
package analysis
