//! Prints a line each ten milliseconds, for ever; with an argument, it fails after so many.

fn main() {
    let most = std::env::args().nth(1).and_then(|text| text.parse::<u32>().ok());
    for n in 0_u32.. {
        println!("tick {n}");
        if Some(n) == most {
            eprintln!("no more");
            std::process::exit(3);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
