//! A command: a program with main instead of a handler.

fn main() {
    println!("hello");
}
